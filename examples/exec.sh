#!/bin/sh
# Any program as one item. --parse reads the progress from its output; without it, the item only starts and ends.
progressbar-tracker exec --id example-exec --parse -- sh -c '
    for part in 1 2 3 4 5 6 7 8; do
        sleep 0.05
        echo "$part of 8 parts packed"
    done
'
