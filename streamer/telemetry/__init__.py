"""What streamer tells about itself: spans, metrics, health and logs. It never fails the job."""
