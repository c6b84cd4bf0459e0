"""Example plugins for ebbtide, from the smallest to the most able: no_gauge, round, loadavg, statsd."""
