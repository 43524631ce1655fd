#!/bin/sh
# A pipeline: lines are counted on their way, and arrive as they were.
seq 20000 | progressbar-tracker pipe --id example-pipe --total 20000 | sort -n | tail -n 1
