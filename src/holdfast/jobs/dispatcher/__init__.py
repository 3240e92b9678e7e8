"""The dispatcher: takes calls, runs them on hosts, records what comes of them."""
