package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
	"xentrace/internal/slots"
	"xentrace/internal/verdict"
)

func (r *reader) liveCode(ctx context.Context) Known[netfront.Answer] {
	answer, err := r.source.LiveCode(ctx)
	if err == nil && answer.Value == netfront.Unknown {
		return missing[netfront.Answer](answer.Evidence)
	}
	return tried(answer, err)
}

// readFile analyses the driver on disk: the running kernel's module, or the kernel
// that it is built into.
func (m *Machine) readFile(ctx context.Context, r *reader) {
	m.Code.Loaded = r.loadedBuild()
	found, err := r.driverFile()
	if err != nil {
		m.Code.File = missing[File](err.Error())
		return
	}
	file, err := ReadFile(ctx, r.source.Files, found)
	file.Path = "/" + found
	m.Code.File = tried(file, err)
}

// loadedBuild is the build id of the driver that is loaded, or of the kernel that
// it is built into.
func (r *reader) loadedBuild() string {
	const module = "sys/module/xen_netfront"
	switch {
	case !r.exists(module):
		return ""
	case r.exists(module + "/initstate"):
		return kernel.BuildID([]byte(r.text(module + "/notes/.note.gnu.build-id")))
	default: // built-in drivers have parameters there, and no state
		return kernel.BuildID([]byte(r.text("sys/kernel/notes")))
	}
}

// driverFile finds the driver of the running kernel on disk.
func (r *reader) driverFile() (string, error) {
	for _, root := range []string{"lib/modules/", "usr/lib/modules/"} {
		directory := root + r.source.Release
		if !r.exists(directory) {
			continue
		}
		for line := range strings.Lines(r.text(directory + "/modules.dep")) {
			file, _, _ := strings.Cut(line, ":")
			if base, _, _ := strings.Cut(path.Base(file), "."); base == "xen-netfront" || base == "xen_netfront" {
				if !path.IsAbs(file) {
					file = path.Join("/", directory, file)
				}
				return path.Clean(file)[1:], nil
			}
		}
		for _, suffix := range []string{"", ".xz", ".zst", ".gz"} { // a file that depmod does not know of
			if file := directory + "/kernel/drivers/net/xen-netfront.ko" + suffix; r.exists(file) {
				return file, nil
			}
		}
		if strings.Contains(r.text(directory+"/modules.builtin"), "/xen-netfront.ko") {
			return r.kernelFile(directory)
		}
		return "", fmt.Errorf("there is no xen-netfront in /%s", directory)
	}
	return "", fmt.Errorf("there is no /lib/modules/%s", r.source.Release)
}

// kernelFile finds the running kernel with its symbols.
func (r *reader) kernelFile(modules string) (string, error) {
	for _, file := range []string{
		"usr/lib/debug/boot/vmlinux-" + r.source.Release, "usr/lib/debug/lib/modules/" + r.source.Release + "/vmlinux",
		"boot/vmlinux-" + r.source.Release, modules + "/build/vmlinux",
	} {
		if r.exists(file) {
			return file, nil
		}
	}
	return "", errors.New("the driver is built into the kernel, and no vmlinux with symbols is on disk")
}

// ReadFile reads a driver from a file. What the file does not show is an answer;
// the error reports a file that cannot be read at all.
func ReadFile(ctx context.Context, files fs.FS, name string) (File, error) {
	if err := regular(fs.Stat(files, name)); err != nil { // opening a FIFO would block
		return File{}, err
	}
	opened, err := files.Open(name)
	if err != nil {
		return File{}, err
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err := regular(info, err); err != nil {
		return File{}, err
	}
	content, is := opened.(io.ReaderAt)
	if !is {
		return File{}, errors.New("it cannot be read at will")
	}
	file := File{Path: name}
	image, err := netfront.ReadDriver(content, info.Size())
	if errors.Is(err, kernel.ErrNotCode) {
		file.Answer.Evidence = strings.TrimPrefix(err.Error(), kernel.ErrNotCode.Error()+": ")
		return file, nil
	}
	if err != nil {
		return File{}, err
	}
	file.BuildID = image.BuildID
	file.Answer, err = image.Linearizes(ctx)
	return file, err
}

func regular(info fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	}
	return nil
}

// OfFile is the one finding about a driver in a file.
func OfFile(file File) event.Finding {
	f := event.Finding{ID: LinearizeCode, Evidence: []event.Fact{{Key: "read_from", Value: "file"}, {Key: "file", Value: file.Path}, {Key: "build_id", Value: orNull(file.BuildID)}, {Key: "code", Value: file.Answer.Evidence}}}
	switch file.Answer.Value {
	case netfront.Linearizes:
		f.Message = "Driver linearizes packets over 18 slots instead of dropping them."
	case netfront.Drops:
		f.Status, f.Message = event.Fail, "Driver drops every packet over 18 slots: it does not linearize."
		f.Advice = remedy.For(remedy.Facts{}, remedy.UpdateKernel)
	default:
		f.Status, f.Message = event.Unknown, "Whether this driver linearizes is unknown: "+file.Answer.Evidence+"."
		f.Evidence[len(f.Evidence)-1].Value = nil
	}
	return f
}

// linearizes is what is believed of the driver: what its running code shows, else
// the file it was loaded from.
func (c *Code) linearizes() netfront.Linearization {
	if c.Live.Missing == "" {
		return c.Live.Value.Value
	}
	if c.File.Missing == "" && !c.stale() {
		return c.File.Value.Answer.Value
	}
	return netfront.Unknown
}

// stale reports that the file on disk is not the driver that is loaded.
func (c *Code) stale() bool {
	return c.Loaded != "" && c.File.Value.BuildID != "" && c.Loaded != c.File.Value.BuildID
}

// same reports that it certainly is.
func (c *Code) same() bool { return c.Loaded != "" && c.Loaded == c.File.Value.BuildID }

func (m *Machine) linearize() event.Finding {
	c := &m.Code
	f := event.Finding{ID: LinearizeCode, Evidence: append(c.evidence(), event.Fact{Key: "single_pages", Value: m.SinglePages.fact()})}
	switch c.linearizes() {
	case netfront.Linearizes:
		f.Message = "Driver linearizes packets over 18 slots instead of dropping them."
	case netfront.Drops:
		f.Status, f.Message = event.Fail, "Driver drops every packet over 18 slots: it does not linearize. A TCP connection with such a segment stalls."
		if m.SinglePages.Value {
			f.Message += " New page fragments are single pages (net.core.high_order_alloc_disable=1), so few packets need that many."
		}
		f.Advice = m.adviseAll(verdict.OfCause(event.TooManySlots).Remedies...)
	default:
		f.Status, f.Message = event.Unknown, "Whether the driver linearizes is unknown. "+c.unknown()
		return f
	}
	f.Message += c.standing()
	return f
}

func (c *Code) unknown() string {
	text := "Running code: " + c.Live.Missing + ". File on disk: "
	switch {
	case c.File.Missing != "":
		return text + c.File.Missing + "."
	case c.stale():
		return text + c.File.Value.Path + " is not the build that is loaded."
	default:
		return text + c.File.Value.Answer.Evidence + "."
	}
}

// standing reports what the answer is based on, where that is not the running code alone.
func (c *Code) standing() string {
	file := &c.File.Value
	switch {
	case c.Live.Missing != "" && c.same():
		return fmt.Sprintf(" Read from %s, the build that is loaded; running code: %s.", file.Path, c.Live.Missing)
	case c.Live.Missing != "" && c.Loaded == "":
		return fmt.Sprintf(" Read from %s, presumably what is loaded; running code: %s.", file.Path, c.Live.Missing)
	case c.Live.Missing != "":
		return fmt.Sprintf(" Read from %s, which may not be the build that is loaded; running code: %s.", file.Path, c.Live.Missing)
	case c.File.Missing == "" && file.Answer.Value != netfront.Unknown && file.Answer.Value != c.Live.Value.Value:
		return fmt.Sprintf(" The file on disk differs: %s %s them, after the next boot.", file.Path, file.Answer.Value)
	}
	return ""
}

func (c *Code) evidence() []event.Fact {
	from, code := any(nil), any(nil)
	switch {
	case c.Live.Missing == "":
		from, code = "running kernel", c.Live.Value.Evidence
	case c.linearizes() != netfront.Unknown:
		from, code = "file", c.File.Value.Answer.Evidence
	}
	facts := []event.Fact{{Key: "read_from", Value: from}, {Key: "code", Value: code}}
	loaded := any(nil)
	if c.same() || c.stale() {
		loaded = c.same()
	}
	file, reason := &c.File.Value, c.File.Missing
	return append(facts, event.Fact{Key: "file", Value: Known[string]{file.Path, reason}.fact()},
		event.Fact{Key: "file_says", Value: Known[string]{file.Answer.Value.String(), reason}.fact()}, event.Fact{Key: "file_is_loaded", Value: loaded})
}

// skbFrags compares MAX_SKB_FRAGS with the slot limit.
func (m *Machine) skbFrags() event.Finding {
	frags := m.SharedInfo.Value.MaxFrags
	f := event.Finding{ID: SkbFrags, Evidence: []event.Fact{{Key: "max_skb_frags", Value: Known[int]{frags, m.SharedInfo.Missing}.fact()}, {Key: "limit", Value: slots.Limit}}}
	switch {
	case m.SharedInfo.Missing != "":
		f.Status, f.Message = event.Unknown, "MAX_SKB_FRAGS of this kernel is unknown: "+m.SharedInfo.Missing+"."
	case frags < slots.Limit:
		f.Message = fmt.Sprintf("Packets have at most %d fragments and a head: within the %d slots unless fragments straddle page boundaries.", frags, slots.Limit)
	case m.Code.linearizes() == netfront.Drops:
		f.Status, f.Message = event.Warn, fmt.Sprintf("Packets can have %d fragments and a head: over the %d slots even if none straddles a page boundary, and this driver drops those.", frags, slots.Limit)
	case m.Code.linearizes() == netfront.Linearizes:
		f.Message = fmt.Sprintf("Packets can have %d fragments and a head: over the %d slots even if none straddles a page boundary. The driver linearizes those.", frags, slots.Limit)
	default:
		f.Status, f.Message = event.Unknown, fmt.Sprintf("Packets can have %d fragments and a head: over the %d slots. What the driver does with those is unknown.", frags, slots.Limit)
	}
	return f
}
