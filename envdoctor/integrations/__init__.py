"""Pre-flight in the frameworks' own words: one module each, to be imported where that framework is installed."""
