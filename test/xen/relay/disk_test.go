package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// newDisk makes the file of an empty disk.
func newDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	disk, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(disk.Truncate(diskSize), disk.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOutputComesBackFromTheDisk(t *testing.T) {
	path := newDisk(t)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var got bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	read := make(chan error, 1)
	go func() {
		r := diskReader{disk: file}
		read <- r.follow(ctx, &decoder{noise: &got})
	}()

	w, err := openDiskWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	source := rand.New(rand.NewPCG(1, 2))
	var want []byte
	for len(want) < 5*maxRecord {
		piece := bytes.Repeat([]byte{byte('a' + source.IntN(26))}, 1+source.IntN(3*sector))
		want = append(want, piece...)
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes came back, want the %d written", got.Len(), len(want))
	}
}

func TestHalfWrittenRecordIsNotRead(t *testing.T) {
	record := make([]byte, maxRecord)
	n := copy(record[headerLength:], "some output of the program")
	length := sealRecord(record, 0, n)
	tests := []struct {
		name  string
		spoil func(disk []byte)
		want  string
	}{
		{"whole", func([]byte) {}, "some output of the program"},
		{"nothing there", func(disk []byte) { clear(disk) }, ""},
		{"data not there yet", func(disk []byte) { clear(disk[headerLength:]) }, ""},
		{"last byte not there yet", func(disk []byte) { disk[headerLength+n-1] = 0 }, ""},
		{"of another number", func(disk []byte) { sealRecord(disk, 1, n) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk := bytes.Clone(record[:length])
			tt.spoil(disk)
			r := diskReader{disk: shifted{bytes.NewReader(disk)}}
			if got := string(r.next()); got != tt.want {
				t.Errorf("read %q, want %q", got, tt.want)
			}
		})
	}
}

// shifted puts what it holds where the output begins.
type shifted struct{ io.ReaderAt }

func (s shifted) ReadAt(p []byte, at int64) (int, error) {
	return s.ReaderAt.ReadAt(p, at-outputOffset)
}

func TestFullDiskIsAnError(t *testing.T) {
	w, err := openDiskWriter(newDisk(t))
	if err != nil {
		t.Fatal(err)
	}
	w.end = outputOffset + 4*sector
	piece := make([]byte, sector)
	for range 100 {
		if _, err = w.Write(piece); err != nil {
			break
		}
	}
	if cerr := w.Close(); !errors.Is(cerr, errDiskFull) {
		t.Errorf("closing: %v (the last write: %v), want %v", cerr, err, errDiskFull)
	}
}
