"""Recorded quotes through the live rules, faster than they came: `fairmark replay`."""
