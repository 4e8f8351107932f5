// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice RFC 6962 section 2.1 by its definitions: slow, recursive, and nothing like the code it is to test.
library Reference {
    function leaf(bytes memory entry) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"00", entry));
    }

    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"01", left, right));
    }

    /// @dev The largest power of two below the number of leaves.
    function split(uint256 size) internal pure returns (uint256 k) {
        k = 1;
        while (2 * k < size) k *= 2;
    }

    function root(bytes32[] memory leaves, uint256 from, uint256 to) internal pure returns (bytes32) {
        if (to == from) return sha256("");
        if (to - from == 1) return leaves[from];
        uint256 k = split(to - from);
        return node(root(leaves, from, from + k), root(leaves, from + k, to));
    }

    function path(uint256 index, bytes32[] memory leaves, uint256 from, uint256 to)
        internal
        pure
        returns (bytes32[] memory)
    {
        if (to - from == 1) return new bytes32[](0);
        uint256 k = split(to - from);
        if (index < k) return _push(path(index, leaves, from, from + k), root(leaves, from + k, to));
        return _push(path(index - k, leaves, from + k, to), root(leaves, from, from + k));
    }

    function consistency(uint256 old, bytes32[] memory leaves, uint256 from, uint256 to, bool whole)
        internal
        pure
        returns (bytes32[] memory)
    {
        if (old == to - from) {
            return whole ? new bytes32[](0) : _push(new bytes32[](0), root(leaves, from, to));
        }
        uint256 k = split(to - from);
        if (old <= k) return _push(consistency(old, leaves, from, from + k, whole), root(leaves, from + k, to));
        return _push(consistency(old - k, leaves, from + k, to, false), root(leaves, from, from + k));
    }

    /// @dev RFC 9162 section 2.1.4.2, steps 2 to 5, line by line in plain Solidity.
    function climb(uint256 old, uint256 size, bytes32 oldRoot, bytes32[] calldata proof)
        internal
        pure
        returns (bytes32 fr, bytes32 sr, bool all)
    {
        bool whole = old & (old - 1) == 0;
        if (!whole && proof.length == 0) return (0, 0, false);
        uint256 fn = old - 1;
        uint256 sn = size - 1;
        while (fn & 1 == 1) (fn, sn) = (fn >> 1, sn >> 1);
        fr = sr = whole ? oldRoot : proof[0];
        for (uint256 i = whole ? 0 : 1; i < proof.length; ++i) {
            if (sn == 0) return (fr, sr, false);
            if (fn & 1 == 1 || fn == sn) {
                (fr, sr) = (node(proof[i], fr), node(proof[i], sr));
                while (fn & 1 == 0 && fn != 0) (fn, sn) = (fn >> 1, sn >> 1);
            } else {
                sr = node(sr, proof[i]);
            }
            (fn, sn) = (fn >> 1, sn >> 1);
        }
        return (fr, sr, sn == 0);
    }

    /// @dev How many hashes a proof has, by the definition in RFC 6962 section 2.1.2.
    function hashes(uint256 old, uint256 size) internal pure returns (uint256 count) {
        bool whole = true;
        while (old != size) {
            uint256 k = split(size);
            ++count;
            if (old <= k) size = k;
            else (old, size, whole) = (old - k, size - k, false);
        }
        return whole ? count : count + 1;
    }

    function _push(bytes32[] memory list, bytes32 last) private pure returns (bytes32[] memory longer) {
        longer = new bytes32[](list.length + 1);
        for (uint256 i = 0; i < list.length; ++i) {
            longer[i] = list[i];
        }
        longer[list.length] = last;
    }
}
