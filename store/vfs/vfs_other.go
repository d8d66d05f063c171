//go:build !linux

package vfs

// MapFrom has no effect here.
func MapFrom(int64) int64 { return Least }
