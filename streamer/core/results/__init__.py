"""From outcomes to records: results and dead letters as they are written, and the schemas that they follow."""
