"""`runner schema`: what functions take and give, as documents for other programs."""
