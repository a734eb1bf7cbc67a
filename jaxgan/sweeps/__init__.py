"""What a sweep is made of; `jaxgan.sweep` puts it together.

space        what is tried: an experiment's `sweep()` or `search_space(trial)`
objective    what a trial is judged by
storage      where the trials are kept: a file, a database, a proxy
samplers     how the next trial is chosen, and which running one is given up
study        the trials as slots that workers take, finish, put back, and inherit from the dead
runner       trains a batch of trials
results      the trials as rows; leaderboard.csv
table        the trials at the terminal
charts       rows -> inline SVG
page         sweep.html
"""
