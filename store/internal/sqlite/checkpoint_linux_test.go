package sqlite

import (
	"syscall"
	"testing"

	"github.com/agentevents/agentevents/store/internal/diskfault"
)

// failWrites makes all writes to the file fail until end is called.
func (f *testFile) failWrites() (end func()) {
	end = diskfault.Arm(diskfault.Rule{Suffix: "agentevents.db", Writes: syscall.EIO})
	f.t.Cleanup(end)
	return end
}

// The log has a line, the statistics have a number, and the file is not writable.
func TestFailedCheckpointIsReported(t *testing.T) {
	f := openTestFile(t)
	end := f.failWrites()
	for range 3000 {
		f.write(1000)
		if f.Stats().CheckpointFailures > 0 {
			break
		}
	}
	failures := f.Stats().CheckpointFailures
	f.wantWritable(false, "while no checkpoint succeeds")
	f.maintain()
	if n := f.Stats().CheckpointFailures; failures == 0 || n <= failures || f.lines("level=ERROR") != 1 ||
		f.lines("checkpoint failed") != 1 {
		t.Errorf("%d and then %d checkpoints failed: %s", failures, n, &f.log)
	}
	end()
	f.maintain()
	f.wantWritable(true, "when one has succeeded")
	if f.lines("checkpoint succeeded") != 1 {
		t.Errorf("the log does not report the end of the failure: %s", &f.log)
	}
}

func TestFailedCheckpointStaysWhileAReaderBlocksTheNext(t *testing.T) {
	f := openTestFile(t)
	_, err := f.Checkpoint()
	check(t, err)
	end := f.read()
	f.write(1000)
	f.checkpoints.note(progress{}, progress{}, syscall.EIO)
	complete, err := f.Checkpoint()
	check(t, err)
	if complete {
		t.Error("the whole log is in the file while a reader needs old pages")
	}
	f.wantWritable(false, "while nothing could be written to the file")
	if f.lines("checkpoint succeeded") != 0 {
		t.Errorf("it succeeded without a write: %s", &f.log)
	}
	end()
	complete, err = f.Checkpoint()
	check(t, err)
	if !complete {
		t.Error("the log is not completely in the file")
	}
	f.wantWritable(true, "when all is in the file")
}

func TestFewPagesAreCheckpointedSoon(t *testing.T) {
	f := openTestFile(t)
	f.maintain()
	f.failWrites()
	f.write(1000)
	f.maintain()
	f.wantWritable(true, "at first")
	f.later(checkpointEvery)
	f.maintain()
	f.wantWritable(false, "when a checkpoint was due")
}

func TestLargeLogIsReportedAndTruncatedAfterItsReader(t *testing.T) {
	f := openTestFile(t)
	end := f.read()
	for f.Stats().WALBytes < largeWAL {
		f.write(4_000_000)
	}
	for range 3 {
		f.maintain()
	}
	if got := f.Stats().WALBytes; got < largeWAL || f.lines("level=WARN") != 1 {
		t.Errorf("%d bytes: %s", got, &f.log)
	}
	f.wantWritable(true, "while another connection reads")
	f.later(warnEvery)
	f.maintain()
	if f.lines("level=WARN") != 2 {
		t.Errorf("the warning is not repeated: %s", &f.log)
	}
	end()
	f.maintain()
	if got := f.Stats().WALBytes; got != 0 || f.lines("truncated") != 1 {
		t.Errorf("%d bytes are left when the reader has ended: %s", got, &f.log)
	}
	f.write(1000)
}

// Maintain makes that checkpoint on another connection.
func TestWriterDoesNotCheckpointALargeLog(t *testing.T) {
	f := openTestFile(t)
	end := f.read()
	for f.Stats().WALBytes < writerPages*4096+1<<20 {
		f.write(4_000_000)
	}
	end()
	succeed := f.failWrites()
	for range 4 * writerCheckEvery {
		f.write(1000)
	}
	if f.Stats().CheckpointFailures > 0 {
		t.Error("the writer made the checkpoint")
	}
	succeed()
	f.maintain()
	if n := f.Stats().WALBytes; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
