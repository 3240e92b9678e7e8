"""The same work by holdfast and by the clients people use today, side by side in one run."""
