"""HTTP/1.1 exchanges as programs: requests, responses, kept connections."""
