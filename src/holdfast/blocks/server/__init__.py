"""The block service: stores blocks on volumes, and serves them by the Keep protocol over HTTP."""
