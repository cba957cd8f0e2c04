"""The health app: a Faust app that folds reports, joins feedback and says when something is wrong."""
