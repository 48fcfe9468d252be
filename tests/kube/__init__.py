"""The chart on a real control plane: etcd, kube-apiserver, kube-controller-manager, helm, and doubles for the rest.

Real: the API server with its validation, RBAC and aggregation; the controllers of Deployments, ReplicaSets, Jobs,
Endpoints, disruption, garbage and the HorizontalPodAutoscaler; helm; every process of ours. Doubles: scheduler, kubelet
(`kubelet.py`: a pod's containers are processes of this machine), kube-proxy (`services.py`), cluster DNS (`names.py`).
Not enforced: images, users, resources, read-only roots, NetworkPolicies. Volumes are ConfigMaps, Secrets, projections
of them and empty folders.

The binaries are found through BATON_CONTROL_PLANE (`plane.py`); without it everything here is skipped. They are v1.20:
`backport.py` rewrites what that version does not know. A current Kubernetes is for deploy/kind.
"""
