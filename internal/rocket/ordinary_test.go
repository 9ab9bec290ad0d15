package rocket

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

func TestHold(t *testing.T) {
	held, err := Hold(t.Context(), 1000, 300)
	must(t, err)
	if held.count != 1000 {
		t.Errorf("%d held, want 1000", held.count)
	}
	unread := 0
	data, want := make([]byte, 512), make([]byte, 300)
	for _, conn := range held.receivers {
		for {
			conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, err := conn.Read(data)
			if err != nil {
				break
			}
			if fillDatagram(want, binary.BigEndian.Uint64(data[8:])); !bytes.Equal(data[:n], want) {
				t.Errorf("%d bytes: not what was sent", n)
			}
			unread++
		}
	}
	if unread != 1000 {
		t.Errorf("%d lay unread, want 1000", unread)
	}
	must(t, held.Close())
	for _, length := range []int{HeaderLength - 1, 513} {
		if _, err := Hold(t.Context(), 1, length); err == nil {
			t.Errorf("payload of %d bytes was taken", length)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
