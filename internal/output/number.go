package output

import (
	"strconv"
	"time"
)

// grouped writes n with a comma between groups of three digits.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	b := make([]byte, 0, len(digits)+len(digits)/3)
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b = append(b, ',')
		}
		b = append(b, digits[i])
	}
	return string(b)
}

// byteSize writes a number of bytes in steps of a thousand, as network tools do.
func byteSize(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " B"
	}
	size, unit := float64(n)/1000, 0
	for size >= 999.95 && unit < 4 {
		size, unit = size/1000, unit+1
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + " " + []string{"kB", "MB", "GB", "TB", "PB"}[unit]
}

// perSecond is a rate, rounded; 0 where no time passed.
func perSecond(n uint64, d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64(float64(n)/d.Seconds() + 0.5)
}

// seconds writes a duration as people say it: 12.0 s, 3m 20s.
func seconds(d time.Duration) string {
	if d < time.Minute {
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	d = d.Round(time.Second)
	hours, minutes, rest := int(d/time.Hour), int(d/time.Minute)%60, int(d/time.Second)%60
	if hours > 0 {
		return strconv.Itoa(hours) + "h " + strconv.Itoa(minutes) + "m " + strconv.Itoa(rest) + "s"
	}
	return strconv.Itoa(minutes) + "m " + strconv.Itoa(rest) + "s"
}
