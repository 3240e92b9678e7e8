"""The host daemon: runs procedures for those who may call them, each call in its own process."""
