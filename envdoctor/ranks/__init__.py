"""A job of many processes: which rank this one is, and how ranks tell each other a few small things.

Nothing is launched and no collective is started: an existing launcher is the engine, its store carries the words.
"""
