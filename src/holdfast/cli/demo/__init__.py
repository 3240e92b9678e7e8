"""The demonstration: thousands of calls to three servers, while one is killed and comes back."""
