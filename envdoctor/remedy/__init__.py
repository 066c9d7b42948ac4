"""Ways out: from what is needed to the commands that bring it about, for each installer and operating system."""
