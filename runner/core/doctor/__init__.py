"""What will hurt: pure checks of what a server says of itself, each in a file of its own."""
