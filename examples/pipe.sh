#!/bin/sh
# A pipeline: its lines are counted and pass through unchanged.
seq 20000 | progressbar-tracker pipe --id example-pipe --total 20000 | sort -n | tail -n 1
