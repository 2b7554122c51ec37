"""`appsrv doctor`: the facts about a project, its machine and its running instance, and the findings that follow.

Start with `facts`. `machine_rules` and `app_rules` are pure; `survey`, `trial` and `running` collect the facts.
"""
