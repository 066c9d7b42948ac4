"""[payload] The benchmark: what is measured in the patient, one suite a module, each in a process of its own.

A suite says what it measures (``Suite.measure``); ``stopwatch`` times it, ``stopping`` says when that is enough,
``place`` is the device. Nothing here judges a number: that needs limits and references, which the doctor has.
"""
