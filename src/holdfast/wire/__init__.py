"""Bytes to messages and messages to bytes, without I/O."""
