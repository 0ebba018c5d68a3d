"""``midwife rule``: rules of the site, one module for each few commands."""
