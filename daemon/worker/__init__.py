"""The daemon at work: one job after another, each in a child that is looked after."""
