"""Content-addressed blocks on N of M services (the Keep protocol): client, cache, server, files."""
