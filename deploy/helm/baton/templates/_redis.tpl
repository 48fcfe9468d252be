{{/* Rights in Redis, as common/directory/access.py grants them; a test compares the two. */}}
{{- define "baton.redis.acl" -}}
{{- $prefix := printf "baton:{%s}:" (include "baton.cluster" .root) -}}
{{- $connection := "+auth +ping +select +client|setname +quit +multi +exec +discard +watch +unwatch" -}}
user default reset off
user baton-worker reset on #{{ sha256sum .worker }} ~{{ $prefix }}worker:* ~{{ $prefix }}owned:* ~{{ $prefix }}workers ~{{ $prefix }}events resetchannels -@all {{ $connection }} +get +smembers +set +del +pexpire +sadd +srem +xadd
user baton-router reset on #{{ sha256sum .router }} %R~{{ $prefix }}worker:* %R~{{ $prefix }}owned:* %R~{{ $prefix }}workers %R~{{ $prefix }}events ~{{ $prefix }}queue:* ~{{ $prefix }}routers resetchannels -@all {{ $connection }} +get +mget +smembers +xrange +xrevrange +set +del +pexpire +sadd +srem +info
user baton-planner reset on #{{ sha256sum .planner }} %R~{{ $prefix }}worker:* %R~{{ $prefix }}workers %R~{{ $prefix }}queue:* %R~{{ $prefix }}routers resetchannels -@all +auth +ping +select +client|setname +quit +mget +smembers
{{- end -}}

{{/* The Secret with the authority of an external Redis; empty where everybody knows it. */}}
{{- define "baton.redis.ca" -}}
{{- if not .Values.redis.embedded.enabled -}}{{- .Values.redis.external.caSecret.name -}}{{- end -}}
{{- end -}}
