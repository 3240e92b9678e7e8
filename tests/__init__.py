"""Test holdfast."""
