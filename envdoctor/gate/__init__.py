"""Pre-flight: a cheap verdict inside the program that is about to train.

This is the one room in which the doctor and the patient are the same process. What can be read here without harm is
read here and marked live: torch's settings, the environment, the libraries that are mapped. Everything that touches a
driver is asked in a child, so that no context, thread, file or process is left behind.
"""
