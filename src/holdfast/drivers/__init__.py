"""Drivers perform the operations of programs, each in its own way of waiting."""
