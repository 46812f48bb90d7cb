"""A small study and the table of its runs, and commands that behave like Slurm's."""

import os
import stat

import pytest
from command_line import alone, study

from flatwide.study.executors import slurm as slurm_executor

__all__ = ["alone", "study"]  # fixtures

# One file a command. Jobs are processes whose state is kept in files, as Slurm's accounting would.
SLURM = {
    "sbatch": """
id=$(( $(ls $STATE | grep -c sbatch) + 1000 ))
cp $1 $STATE/$id.sbatch; echo PENDING > $STATE/$id.state
if [ ! -e $STATE/full ]; then
  SLURM_JOB_ID=$id SLURM_PROCID=0 setsid bash -c "echo RUNNING > $STATE/$id.state; bash $1
    [ -s $STATE/$id.state ] && grep -q RUNNING $STATE/$id.state && echo FAILED > $STATE/$id.state" >/dev/null 2>&1 &
fi
echo "Submitted batch job $id"
""",
    # All tasks are processes of this machine; one that fails ends the others.
    "srun": """
while [[ $1 == --* ]]; do
  case $1 in
    --kill-on-bad-exit) kills=yes; shift;;
    --unbuffered | --*=*) shift;;
    --output) output=$2; shift 2;;
    --error) error=$2; shift 2;;
    *) echo "unknown option $1"; exit 1;;
  esac
done
asked() { sed -n "s/^#SBATCH --$1=//p" $STATE/$SLURM_JOB_ID.sbatch; }
tasks=$(( $(asked nodes) * $(asked ntasks-per-node) ))
export SLURM_NTASKS=$tasks SLURM_STEP_NODELIST=localhost SLURM_STEP_NUM_NODES=1
for (( task = 0; task < tasks; task++ )); do
  named() { echo $1 | sed "s/%j/$SLURM_JOB_ID/; s/%t/$task/"; }
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" >> $(named $output) 2>> $(named $error) & pids+=($!)
done
echo ${pids[@]} > $STATE/$SLURM_JOB_ID.pid
for (( task = 0; task < tasks; task++ )); do
  wait -n || { code=$?; [[ $kills ]] && kill -KILL ${pids[@]} 2> /dev/null; }
done
exit ${code:-0}
""",
    "scancel": """
echo $1 >> $STATE/cancelled; echo "CANCELLED by 0" > $STATE/$1.state
[ -e $STATE/$1.pid ] && kill -TERM $(cat $STATE/$1.pid)
true
""",
    "squeue": """
for file in $STATE/*.state; do echo "$(basename $file .state) $(cut -d' ' -f1 $file)"; done
""",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Put commands that behave like Slurm's onto the path; give the folder of their jobs."""
    for name, text in SLURM.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    slurm_executor._submitit().SlurmJob.watcher.clear()  # of the jobs of other tests, which have the same numbers
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("STATE", str(state))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return state
