"""One suite of behaviour, run through every driver."""
