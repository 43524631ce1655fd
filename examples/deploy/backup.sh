#!/bin/sh
# Copy a database file, prove that the copy can be restored, then delete copies that are older than some days.
#
#     backup.sh DATABASE FOLDER [DAYS]
#
# Any error ends it before the first deletion, and the new copy is never deleted.
set -eu

database=$1 folder=$2 days=${3:-14}
umask 077
mkdir -p "$folder"
copy=$folder/progress-$(date -u +%Y%m%dT%H%M%SZ).db
copied=$(progressbar-tracker backup --database "$database" "$copy")
echo "$copied"

# The restore drill, with the command of a real restore. It runs beside the copies, where space is needed anyway.
drill=$(mktemp -d "$folder/drill-XXXXXX")
trap 'rm -rf "$drill"' EXIT
restored=$(progressbar-tracker restore --database "$drill/progress.db" "$copy")
echo "$restored"
if [ "${copied##*: }" != "${restored##*: }" ]; then
    echo "the restored copy differs from $copy" >&2
    exit 1
fi

find "$folder" -maxdepth 1 -name 'progress-*.db' ! -path "$copy" -mtime "+$((days - 1))" -delete
