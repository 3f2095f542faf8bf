"""Request and reply: functions that answer, and whoever asks them."""
