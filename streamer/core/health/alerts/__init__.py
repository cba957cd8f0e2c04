"""What is judged as time goes on: the drift of each revision, the rules, and the alerts that follow."""
