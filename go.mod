module xentrace

go 1.26
