"""What users of other agent frameworks look for, each as a small program that is killed once.

One process begins all of them; each stops at a call whose answer is held back, then the processes
that drive them are killed, and others go on: no finished call is made again, no act happens twice.
"""
