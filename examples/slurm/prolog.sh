#!/bin/bash
# A Slurm prolog: look at the node before a job gets it. In slurm.conf:
#
#     Prolog=/etc/slurm/prolog.d/envdoctor.sh
#     PrologFlags=Alloc
#
# slurmd runs it as root on each node of a job. When it fails, Slurm drains the node and requeues the job, so only what
# concerns the node itself is asked: driver, cards and fabric, not somebody's Python environment. envdoctor lies in an
# environment of its own, which needs no torch.
set -u
ENVDOCTOR=${ENVDOCTOR:-/opt/envdoctor/bin/envdoctor}
REPORT=${ENVDOCTOR_REPORT:-/var/log/slurm/envdoctor.json}
mkdir -p "$(dirname "$REPORT")" # without it nothing would be asked, and every node let through

"$ENVDOCTOR" check --level quick --timeout 20 --only driver --only GPUs --only fabric \
    --fail-on error --also "json:$REPORT"
code=$?

case $code in
0 | 3) exit 0 ;; # healthy, or not to be told: a node is not drained on a guess
1) echo "print envdoctor: this node is not fit, see $REPORT" && exit 1 ;;
*) exit 0 ;; # envdoctor itself failed: that is no reason to drain a node
esac
