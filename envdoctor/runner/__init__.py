"""The only room that starts processes on the doctor's side: the patient's interpreter, and the commands of a fix.

Nothing is imported here: ``starting`` must be at hand long before ``collection`` is.
"""
