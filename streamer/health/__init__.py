"""Model health beside Kafka: a Faust app that folds reports, joins feedback and raises alarms; and what reads reports
without it. Nothing depends on it."""
