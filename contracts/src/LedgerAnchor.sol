// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "./interfaces/ICouncil.sol";
import {ILedgerAnchor} from "./interfaces/ILedgerAnchor.sol";
import {Names} from "./Names.sol";
import {Proofs} from "./Proofs.sol";
import {Signature} from "./Records.sol";

/// @title LedgerAnchor
/// @notice See ILedgerAnchor.
contract LedgerAnchor is ILedgerAnchor {
    bytes32 internal constant HEAD = keccak256("Head(uint64 size,bytes32 root,uint64 validUntil)");

    ICouncil public immutable council;

    uint64 private _size;
    // Every head is kept, and not a ring of recent ones: an order is paid from a head that is at least order_delay old,
    // so with a ring whoever anchors often enough would make every order unpayable.
    mapping(uint64 size => Head) private _heads;

    constructor(ICouncil council_) {
        council = council_;
    }

    /// @inheritdoc ILedgerAnchor
    function append(uint64 size, bytes32 root, bytes32[] calldata proof, Signature calldata watcherSignature) external {
        if (!council.seated(Names.OPERATOR, msg.sender)) revert NotSeated(Names.OPERATOR, msg.sender);
        uint64 anchored = _size;
        if (size <= anchored) revert SizeNotGrowing(anchored, size);
        if (size > Proofs.MAX_SIZE) revert SizeTooLarge(Proofs.MAX_SIZE, size);
        _checkWatcher(size, root, watcherSignature);
        if (anchored == 0) {
            // RFC 6962 has no proof from the empty tree, which every tree extends.
            if (proof.length != 0) revert ProofNotEmpty(0, proof.length);
        } else if (!Proofs.isConsistent(anchored, _heads[anchored].root, size, root, proof)) {
            revert NotConsistent(anchored, size);
        }
        _size = size;
        _heads[size] = Head(size, uint64(block.timestamp), root);
        emit Anchored(size, root, uint64(block.timestamp));
    }

    /// @inheritdoc ILedgerAnchor
    function head() external view returns (Head memory) {
        return _heads[_size];
    }

    /// @inheritdoc ILedgerAnchor
    function headAt(uint64 size) public view returns (Head memory found) {
        found = _heads[size];
        if (found.time == 0) revert UnknownHead(_size, size);
    }

    /// @inheritdoc ILedgerAnchor
    function isIncluded(bytes calldata record, uint64 index, uint64 headSize, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        // A size that was never anchored has root zero, to which nothing hashes.
        return Proofs.isIncluded(Proofs.leafHash(record), index, headSize, _heads[headSize].root, proof);
    }

    /// @inheritdoc ILedgerAnchor
    function checkIncluded(bytes calldata record, uint64 index, uint64 headSize, bytes32[] calldata proof)
        external
        view
        returns (uint64)
    {
        Head memory found = headAt(headSize);
        if (!Proofs.isIncluded(Proofs.leafHash(record), index, headSize, found.root, proof)) {
            revert NotIncluded(index, headSize);
        }
        return found.time;
    }

    function _checkWatcher(uint64 size, bytes32 root, Signature calldata signature) private view {
        if (block.timestamp > signature.validUntil) revert SignatureExpired(signature.validUntil, block.timestamp);
        bytes32 structHash = keccak256(abi.encode(HEAD, size, root, signature.validUntil));
        address signer = council.recover(structHash, signature.v, signature.r, signature.s);
        if (signer != signature.signer) revert WrongSigner(signature.signer, signer);
        if (!council.seated(Names.WATCHER, signer)) revert NotSeated(Names.WATCHER, signer);
    }
}
