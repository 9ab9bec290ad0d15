package event

// A Status is how serious a finding is. The larger, the more it matters.
type Status uint8

// The statuses.
const (
	OK      Status = iota // nothing is wrong
	Unknown               // it cannot be known; the message says why
	Warn                  // it costs speed, or loses packets under conditions
	Fail                  // packets are lost, or will be with ordinary traffic
)

// String is the word of the JSON output.
func (s Status) String() string { return [...]string{"OK", "UNKNOWN", "WARN", "FAIL"}[s] }

// Statuses lists every status, the most serious first.
func Statuses() []Status { return []Status{Fail, Warn, Unknown, OK} }

// A FindingID names what a finding is about. Scripts rely on it.
type FindingID string

// A Finding is one result of check, about the machine or one of its interfaces.
type Finding struct {
	ID        FindingID
	Status    Status
	Interface string // empty for the machine
	NetNS     uint32 // inode number of the interface's network namespace; 0 for the machine
	Message   string // whole sentences
	Evidence  []Fact
	Advice    []Advice // commands are complete
}

// A Fact is one piece of evidence.
type Fact struct {
	Key   string // in snake_case, with its unit
	Value any    // a string, a number, a bool, or nil for what is not known
}

// Fact returns the value of a piece of evidence; nil if it is not known or absent.
func (f *Finding) Fact(key string) any {
	for _, fact := range f.Evidence {
		if fact.Key == key {
			return fact.Value
		}
	}
	return nil
}
