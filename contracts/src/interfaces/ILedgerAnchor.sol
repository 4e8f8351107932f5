// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title ILedgerAnchor
/// @notice The ledger's heads on this chain. A head is accepted only if it extends the one before.
/// @dev Assumes that SHA-256 collides for nobody, that address 2 is SHA-256, and that operator and watcher are different
/// people; that last is why one holder has one role for ever.
/// WARNING: an anchored head says that the log never forgot, not that its records obey the rules. Who reads a record from
/// the anchor must check its approvals too.
interface ILedgerAnchor {
    /// @param size How many records the tree has.
    /// @param root Its RFC 6962 root.
    /// @param time The block time at which it was anchored.
    struct Head {
        uint64 size;
        uint64 time;
        bytes32 root;
    }

    event Anchored(uint64 indexed size, bytes32 root, uint64 time);

    error NotSeated(bytes32 role, address holder);
    error SizeNotGrowing(uint256 anchored, uint256 offered);
    error SizeTooLarge(uint256 most, uint256 offered);
    error TimeTooLarge(uint256 most, uint256 offered);
    error RootIsZero(uint256 size);
    error ProofNotEmpty(uint256 allowed, uint256 given);
    error NotConsistent(uint256 anchored, uint256 offered);
    error SignatureExpired(uint256 validUntil, uint256 time);
    error UnknownHead(uint256 newest, uint64 asked, uint64 time);
    error NotIncluded(uint64 index, uint64 size);

    /// @notice Anchor a head that extends the newest one; the first needs no proof. The sender is an operator.
    /// @param validUntil The deadline of the watcher's signature.
    /// @param r The compact signature (EIP-2098), with vs, over Head(uint64 size,bytes32 root,uint64 validUntil) in the
    /// Council's domain, by a seat of the role watcher: somebody else has fetched and replayed what is anchored (LEAKS 02).
    function append(uint256 size, bytes32 root, bytes32[] calldata proof, uint256 validUntil, bytes32 r, bytes32 vs)
        external;

    /// @notice The newest head; all zero before the first.
    function head() external view returns (Head memory);

    /// @notice The root of the head of exactly this size that was anchored in this second; refused where there is none.
    /// The event Anchored says the second.
    function rootAt(uint64 size, uint64 time) external view returns (bytes32);

    /// @notice Refuse unless the tree of an anchored head has this record at this index.
    /// @param headTime The second in which that head was anchored; another second names no head.
    function checkIncluded(
        bytes calldata record,
        uint64 index,
        uint64 headSize,
        uint64 headTime,
        bytes32[] calldata proof
    ) external view;
}
