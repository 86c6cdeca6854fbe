#!/bin/sh
# kafka.sh gets a Kafka broker and runs it in the foreground: KRaft mode, loopback only. It is what the tests start.
#
#   kafka.sh fetch                       copy the jars to the cache, with what makes brokers start fast; print where they are
#   kafka.sh run DATA BROKER CONTROLLER  serve on 127.0.0.1:BROKER, with data in DATA; DATA is formatted when it is new,
#                                        and DATA/more.properties, if it is there, adds to the configuration
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/openfunction-events/kafka
jars=$cache/$(cksum <"$here/pom.xml" | cut -d' ' -f1)

need() {
	command -v "$1" >/dev/null || { echo "kafka.sh: $1 is not installed: apt-get install -y $2" >&2; exit 3; }
}

# The jars appear whole or not at all, whoever else fetches them at the same time.
fetch() {
	[ -d "$jars" ] && return
	need mvn maven
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/fetch.XXXXXX")
	mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$tmp/jars" >&2
	mv -T "$tmp/jars" "$jars" 2>/dev/null || [ -d "$jars" ]
	rm -rf "$tmp"
}

# The classes that a broker loads, as it needs them: with them it starts in two thirds of the time. What goes wrong here costs no more than that.
archive() {
	exec 9>"$jars.lock"
	[ ! -f "$jars.jsa" ] && flock -n 9 || return 0
	tmp=$(mktemp -d "$cache/archive.XXXXXX")
	(run "$tmp/data" $((17000 + $$ % 500)) $((17500 + $$ % 500)) timeout 20 java "-XX:ArchiveClassesAtExit=$tmp/jsa") >"$tmp/output" 2>&1 || :
	mv "$tmp/jsa" "$jars.jsa" || cat "$tmp/output" >&2
	rm -rf "$tmp"
}

# run DATA BROKER CONTROLLER JAVA... is in the foreground.
run() {
	data=$1 broker=$2 controller=$3
	shift 3
	mkdir -p "$data"
	sed -e "s|@DATA@|$data|" -e "s|@BROKER@|$broker|g" -e "s|@CONTROLLER@|$controller|g" "$here/server.properties" >"$data/server.properties"
	[ ! -f "$data/more.properties" ] || cat "$data/more.properties" >>"$data/server.properties"
	# The same options for both: a small heap, no JMX, a JVM that starts fast and leaves the other CPUs alone.
	set -- "$@" -Xmx384m -Xms128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Dlog4j.configuration="file:$here/log4j.properties" -cp "$jars/*"
	if [ ! -f "$data/log/meta.properties" ]; then
		"$@" kafka.tools.StorageTool format --ignore-formatted --cluster-id 0penFunctionEvents0000 --config "$data/server.properties" >&2
	fi
	exec "$@" kafka.Kafka "$data/server.properties"
}

need java openjdk-17-jre-headless
case ${1-} in
fetch) fetch; archive; echo "$jars" ;;
run) fetch; shift; run "$@" java "-XX:SharedArchiveFile=$jars.jsa" ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
