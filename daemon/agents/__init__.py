"""For agents: the workspace as tools of the Model Context Protocol"""
