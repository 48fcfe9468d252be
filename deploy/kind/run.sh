#!/usr/bin/env bash
# Builds the images, makes a kind cluster, and takes the chart through its life there: install, a real answer, HPAs that
# read the planner, policies, upgrade, rollback, uninstall. Needs docker, kind 0.24 or newer (its network plugin enforces
# policies), kubectl and helm.
#
#   deploy/kind/run.sh            everything, then the cluster is deleted
#   KEEP=1 deploy/kind/run.sh     stops after the answer and leaves the cluster to you
#
#   KIND_CLUSTER      its name; baton
#   KIND_NODE_IMAGE   another version of Kubernetes than kind's own
#   PYTHON_IMAGE      another base than the Dockerfile's: by digest, or from your mirror
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=${KIND_CLUSTER:-baton}
release=baton
namespace=inference
# Programs of the images, as targets of the Dockerfile.
targets=(router planner worker-cpu)
context=(--kubeconfig "$(mktemp)")
helm=(helm "${context[@]}" --namespace "$namespace")
kubectl=(kubectl "${context[@]}" --namespace "$namespace")

cleanup() {
    local status=$?
    if [ "$status" != 0 ]; then
        "${kubectl[@]}" get pods --output wide || true
        "${kubectl[@]}" get events --sort-by=.lastTimestamp | tail -30 || true
        "${kubectl[@]}" logs --selector "app.kubernetes.io/instance=$release" --prefix --tail 30 || true
    fi
    [ -n "${KEEP:-}" ] || kind delete cluster --name "$cluster"
}

rolled_out() {
    local role
    for role in redis prefill decode router gateway planner; do
        "${kubectl[@]}" rollout status "deployment/$release-$role" --timeout 5m
    done
}

# A connection from a pod that is none of ours, within three seconds.
connects() {
    "${kubectl[@]}" exec stranger -- python -c "import socket; socket.create_connection(('$1', $2), 3)" 2>/dev/null
}

# What a NetworkPolicy should let through. Without it nothing would be learnt from what is refused.
reached() {
    if ! connects "$1" "$2"; then
        echo "a stranger cannot reach $1:$2, where it may" >&2
        exit 1
    fi
    echo "a stranger reaches $1:$2"
}

# What a NetworkPolicy should stop.
refused() {
    if connects "$1" "$2"; then
        echo "a stranger reached $1:$2" >&2
        exit 1
    fi
    echo "a stranger cannot reach $1:$2"
}

images=()
for target in "${targets[@]}"; do
    docker build --file deploy/docker/Dockerfile --target "$target" --tag "baton-$target:kind" \
        ${PYTHON_IMAGE:+--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE"} .
    images+=("baton-$target:kind")
done
kind create cluster --name "$cluster" --config deploy/kind/cluster.yaml --wait 3m "${context[@]}" \
    ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"}
trap cleanup EXIT
kind load docker-image --name "$cluster" "${images[@]}"

"${kubectl[@]}" create namespace "$namespace"
# The strictest of Kubernetes' own profiles: a pod of the chart that asks for more does not start.
"${kubectl[@]}" label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted
"${helm[@]}" install "$release" deploy/helm/baton --values deploy/kind/values.yaml --wait --timeout 5m
"${helm[@]}" test "$release"
"${kubectl[@]}" rollout status "deployment/$release-toolbox" --timeout 1m
"${kubectl[@]}" exec "deployment/$release-toolbox" -- baton doctor
# What the planner wants comes to the HPAs through the API server.
"${kubectl[@]}" wait --for condition=ScalingActive "hpa/$release-prefill" "hpa/$release-decode" --timeout 3m
if [ -n "${KEEP:-}" ]; then
    echo "it runs in namespace $namespace; to use it: kind export kubeconfig --name $cluster"
    exit 0
fi

"${kubectl[@]}" apply --filename - <<'POD'
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: stranger
      image: baton-router:kind
      imagePullPolicy: Never
      command: [sleep, "3600"]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
POD
"${kubectl[@]}" wait --for condition=Ready pod/stranger --timeout 1m
reached "$release-gateway" 8000
refused "$release-redis" 6379
refused "$release-planner" 7470
for role in prefill decode; do
    refused "$("${kubectl[@]}" get pods --selector "app.kubernetes.io/component=$role" --output 'jsonpath={.items[0].status.podIP}')" 7460
done

"${helm[@]}" upgrade "$release" deploy/helm/baton --values deploy/kind/values.yaml --set config.engine.page_size=32
rolled_out
"${helm[@]}" test "$release"
"${helm[@]}" rollback "$release"
rolled_out
"${helm[@]}" test "$release"
"${helm[@]}" uninstall "$release" --wait
