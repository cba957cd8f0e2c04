"""Labels that come later: joined with the results they are about, and summed by the hour of the event."""
