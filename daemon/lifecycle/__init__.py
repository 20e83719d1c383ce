"""What becomes of a job: pure rules, and the changes of state that they call for."""
