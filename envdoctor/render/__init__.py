"""Renderers: Report -> text, one file a format. They are pure; only the command line prints."""
