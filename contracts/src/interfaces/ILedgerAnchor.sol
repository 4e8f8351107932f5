// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signature} from "../Records.sol";

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
    error SizeNotGrowing(uint64 anchored, uint64 offered);
    error SizeTooLarge(uint256 most, uint64 offered);
    error ProofNotEmpty(uint256 allowed, uint256 given);
    error NotConsistent(uint64 anchored, uint64 offered);
    error SignatureExpired(uint64 validUntil, uint256 time);
    error WrongSigner(address named, address recovered);
    error UnknownHead(uint64 newest, uint64 asked);
    error NotIncluded(uint64 index, uint64 size);

    /// @notice Anchor a head that extends the newest one; the first needs no proof.
    /// @param watcherSignature Head(uint64 size,bytes32 root,uint64 validUntil) in the Council's domain, by a seat of
    /// the role watcher: somebody else has fetched and replayed what is anchored (LEAKS 02).
    function append(uint64 size, bytes32 root, bytes32[] calldata proof, Signature calldata watcherSignature) external;

    /// @notice The newest head; all zero before the first.
    function head() external view returns (Head memory);

    /// @notice The head of exactly this size; refused where none was anchored.
    function headAt(uint64 size) external view returns (Head memory);

    /// @notice Whether the tree of an anchored head has this record at this index.
    function isIncluded(bytes calldata record, uint64 index, uint64 headSize, bytes32[] calldata proof)
        external
        view
        returns (bool);

    /// @notice The same, but refuses with the reason, and gives the time at which that head was anchored.
    function checkIncluded(bytes calldata record, uint64 index, uint64 headSize, bytes32[] calldata proof)
        external
        view
        returns (uint64 time);
}
